from shunter.coordinator.command import coordinator

coordinator()
