"""What detections are worth: AP, precision and recall, confusion matrix, kinds of errors; NumPy only."""
