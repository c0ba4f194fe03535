"""Speed and memory of training and inference on this machine, alone or compared with the same in PyTorch.

Every contestant runs in a process of its own, so that their threads and memory do not interfere. On CPUs all are warmed up
first and then measured in turn, A B A B, while the others sleep, so that other load on the machine affects them equally. On a
GPU, whose memory each takes, one is measured after the other. PyTorch has a contestant for each way to run it; the fastest
counts.
"""
