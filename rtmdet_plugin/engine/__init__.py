"""What runs around the training steps, in the packages of mmdet's `engine`."""
