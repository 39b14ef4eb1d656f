"""The tests, one folder a package of fhlib, and in `whole/` what takes a whole study, a browser or JupyterLab."""

import os

# Threads of torch that wait for one another leave the cores to others. It has to be said before torch is loaded, and goes on to
# processes that tests start; without it tests on a busy machine take five times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
