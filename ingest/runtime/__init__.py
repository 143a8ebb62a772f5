"""What both processes need whatever they do: settings, errors, logs, web plumbing."""
