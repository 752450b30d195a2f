"""Distinct types for the identifiers that travel together, so that a checker tells them apart."""

from typing import NewType

JobId = NewType("JobId", int)
"""Short integer, dense within a cluster, from 1."""

AllocationId = NewType("AllocationId", str)
"""`EPOCH.N`: unique because an epoch has one leader and a leader counts; tells two decisions for one attempt apart."""

NodeName = NewType("NodeName", str)

Incarnation = NewType("Incarnation", str)
"""One start of a node worker. A claim, a queue and a lease belong to an incarnation, never to a node name alone."""
