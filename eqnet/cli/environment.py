"""How threads wait, set before anything loads OpenMP; imported first by the command line.

By default an idle OpenMP thread spins for milliseconds. With one other busy process on the machine every parallel
loop then waits for a thread that has lost its core, and small networks run ten times slower. A short spin keeps
nearly all of the speed of an idle machine.
"""

import os

os.environ.setdefault("GOMP_SPINCOUNT", "20000")
