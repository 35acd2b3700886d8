"""The machine below: what EC2's metadata service says of it, and whether it is taken away. For workers and training.

metadata   the service itself (IMDSv2): tokens, time-outs, what is nonsense
notices    whether to watch, whom to ask, what stands after each look
"""
