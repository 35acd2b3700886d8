"""The machine below: what EC2's metadata service says of it, and whether it is taken away. For workers and training."""
