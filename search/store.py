
from dataclasses import dataclass
@dataclass(frozen=True)
class Measurement:
    divergence: float
    loss: float
    accuracy: float
class Store:
    def __init__(s): s.d={}
    @classmethod
    def open(cls,p,f): return cls()
    def get(s,k): return s.d.get(k)
    def add(s,k,m): s.d[k]=m
    def __enter__(s): return s
    def __exit__(s,*a): pass
