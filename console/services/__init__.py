"""What is done for consoles: tickets, and where a console is found."""
