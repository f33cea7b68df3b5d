"""What the command line does: compose cells, show choices and plans, launch, go on, submit."""
