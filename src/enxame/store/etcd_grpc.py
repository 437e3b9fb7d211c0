"""gRPC, and the messages and stubs of etcd that ``aetcd`` carries, loaded as a program with children needs them.

Importing this module takes some 30 MB: only a manager that has an etcd member does.
"""

from __future__ import annotations

import os

# Children are started with vfork and exec alone; gRPC's own fork handlers would only warn.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

import grpc
import grpc.aio
from aetcd.rpc import kv_pb2, rpc_pb2, rpc_pb2_grpc

__all__ = ["grpc", "kv_pb2", "rpc_pb2", "rpc_pb2_grpc"]
