"""Files of runs that are damaged in every way, full disks, and markup in every text: nothing of it reaches the other runs."""
