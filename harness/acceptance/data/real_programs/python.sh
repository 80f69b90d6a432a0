# SPDX-License-Identifier: MIT
# Threads, signals, children, pools of all three kinds, asyncio.

python3 "$DATA/python_threads.py" && python3 "$DATA/python_processes.py" &&
	python3 "$DATA/python_asyncio.py"
echo "status $?"
python3 -c 'import os, signal; os.kill(os.getpid(), signal.SIGINT)' 2>/dev/null
echo "status $?"
python3 -c 'import sys; sys.exit(7)'
