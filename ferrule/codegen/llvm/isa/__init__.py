"""The instructions of each architecture as tables, `x86.py` and `arm.py`. `select.py` finds those
that mean what is to be computed.
"""
