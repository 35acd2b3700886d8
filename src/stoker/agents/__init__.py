"""Agents: durable runs of LangGraph graphs, with a budget. docs/decisions/10-agents.md has the whole picture."""
