"""The interfaces that plugins implement, one file a role. Nothing here computes."""
