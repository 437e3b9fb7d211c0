"""Shortcuts of the routing mesh: busy connections pass this machine without its packet filter, by eBPF.

``instructions`` writes eBPF, ``program`` is what runs at the links, ``flow`` is what it knows of a connection,
``connections`` asks the kernel which connections may take a shortcut, ``bpf`` and ``attaching`` talk to the kernel,
``kernel_side`` is all of that in one thread, and ``shortcuts`` keeps it in step.
"""
