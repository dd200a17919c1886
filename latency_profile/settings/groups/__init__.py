"""The settings, group by group: each class is a group of the help and of docs/settings.md."""
