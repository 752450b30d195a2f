"""Count to 1,000, and go on where the last attempt stopped. Needs nothing but Python."""

import os
import signal
import sys
from pathlib import Path

stopping = False


def stop(*_: object) -> None:
    # Only a note is taken here: printing or saving in the handler could interrupt the very print or save that runs.
    global stopping
    stopping = True


signal.signal(signal.SIGTERM, stop)  # before anything is printed: whoever sees output may already ask to stop

checkpoint = Path(os.environ.get("SHUNTER_CHECKPOINT_DIR", ".")) / "count"
count = int(checkpoint.read_text()) if checkpoint.exists() else 0
print(f"attempt {os.environ.get('SHUNTER_ATTEMPT', '1')} begins at {count}", flush=True)


def save() -> None:
    part = checkpoint.with_suffix(".part")
    part.write_text(str(count))
    part.replace(checkpoint)  # a reader sees the old file or the new one, never half of it


while count < 1_000:
    sum(number * number for number in range(200_000))  # stands for a training step
    count += 1
    if stopping:
        save()
        print(f"asked to stop at {count}: saved", flush=True)
        sys.exit(143)
    if count % 50 == 0:
        save()
        print(f"step {count}", flush=True)
print("done")
