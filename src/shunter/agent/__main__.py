from shunter.agent.command import start

start()
