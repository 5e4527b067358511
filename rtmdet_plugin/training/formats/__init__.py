"""Annotation formats: each module finds one format in a folder and reads it as COCO's lists.

supervision 0.31 reads three of these formats and was measured as too slow for 100,000 images. On 500 images of 640x480
pixels with four boxes and two polygons each, it took 11 ms and 3.7 MB of memory per image, because it turns polygons
into masks of the image's size. These modules took 0.35 ms, and keep only the boxes. From VOC files, with about 20 boxes
each, it took 2.8 ms per image, these modules 1 ms. It also names neither file nor line of a faulty entry.
"""
