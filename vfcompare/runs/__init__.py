"""What is on disk: runs, their files and views of them, and what has become of each."""
