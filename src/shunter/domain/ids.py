"""Distinct types for the identifiers that travel together, so that a checker tells them apart."""

from typing import NewType

JobId = NewType("JobId", int)
"""Short integer, dense within a cluster, from 1."""

AllocationId = NewType("AllocationId", str)
"""`EPOCH.N.TOKEN`: tells two decisions for one attempt apart, whoever made them. An epoch has one leader, who counts;
the beginning of its random token is for a store that lost the epoch (or all its data) and gives it out twice."""

NodeName = NewType("NodeName", str)

Incarnation = NewType("Incarnation", str)
"""One start of a node worker. A claim, a queue and a lease belong to an incarnation, never to a node name alone."""
