from shunter.cli.main import run

run()
