"""Try eight step sizes at once and say which was best. Run it where `shunter up` runs."""

from shunter import Client

# Newton's method for the square root of 2, damped: the "training" that every job does.
PROGRAM = """
import sys
rate, x = float(sys.argv[1]), 3.0
for step in range(20):
    x -= rate * (x * x - 2) / (2 * x)
print(f"error={abs(x - 2 ** 0.5):.2e}")
"""

with Client() as shunter:
    rates = [0.25 * number for number in range(1, 9)]
    jobs = {
        shunter.submit(command=["python3", "-c", PROGRAM, str(rate)], name=f"rate-{rate}", time="1m").id: rate
        for rate in rates
    }
    errors = {}
    for job in shunter.wait(*jobs):
        said = "".join(shunter.logs(job.id, tail=1)).strip()
        print(f"rate {jobs[job.id]:<5} {job.state:<10} {said}")
        if job.state == "succeeded":
            errors[jobs[job.id]] = float(said.removeprefix("error="))
    print(f"best: {min(errors, key=errors.__getitem__)}")
