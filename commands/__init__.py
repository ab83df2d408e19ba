"""What the commands of main.py do beyond one call into a room: what they print, and the processes they start."""
