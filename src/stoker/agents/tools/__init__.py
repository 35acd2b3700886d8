"""The tools of agents: `interface` is what the rest of `agents` knows of them, `toolbox` makes them from the spec."""
