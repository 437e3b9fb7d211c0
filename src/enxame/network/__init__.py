"""Everything that touches netlink, namespaces and nftables."""
