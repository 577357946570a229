"""What every other package may use; knows no word of the domain."""
