"""The engines that are compared: one file each. `contestants.py` lists them."""
