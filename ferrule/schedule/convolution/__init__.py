"""Schedules of convolutions alone: Winograd, overlapped tiling."""
