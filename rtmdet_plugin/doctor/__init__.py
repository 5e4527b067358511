"""Look at data and machine before a training: findings, speed, and pages of images with their boxes."""
