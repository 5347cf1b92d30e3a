"""The benchmark: any set of contenders, each in a process of its own, in turns, against one of them."""
