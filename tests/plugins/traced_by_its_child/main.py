"""Its child leaves the session and traces it: who is traced cannot be reaped before the tracer has let go."""

import ctypes
import os
import time

PTRACE_SEIZE = 0x4206
PR_SET_PTRACER, ANYBODY = 0x59616D61, ctypes.c_ulong(-1)

libc = ctypes.CDLL(None)
libc.prctl(PR_SET_PTRACER, ANYBODY, 0, 0, 0)
me = os.getpid()
told, tell = os.pipe()
if os.fork() == 0:
    os.setsid()
    os.write(tell, b"%d" % libc.ptrace(PTRACE_SEIZE, me, None, None))
    time.sleep(600)
print("traced:", os.read(told, 2).decode(), flush=True)
os._exit(3)
