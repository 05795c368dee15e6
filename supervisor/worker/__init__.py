"""One child process per ready plugin."""
