"""What an archive will take: measured seconds per video become workers, hours and prices."""
