"""An e-mail as the log knows it: where it is filed and why, never what it says."""
