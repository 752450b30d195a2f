from shunter.gateway.command import gateway

gateway()
