"""How long OpenCV's matchTemplate takes: `opencv.py PICTURE X0 Y0 X1 Y1 FROM`, the median in milliseconds."""

import statistics
import sys
import time

import cv2

cv2.setNumThreads(1)
screen = cv2.imread(sys.argv[1])
x0, y0, x1, y1 = map(int, sys.argv[2:6])
part = cv2.imread(sys.argv[6])[y0:y1, x0:x1]
times = []
for _ in range(5):
    begun = time.perf_counter()
    found = cv2.matchTemplate(screen, part, cv2.TM_SQDIFF)
    cv2.minMaxLoc(found)
    times.append(time.perf_counter() - begun)
print(f"{statistics.median(times) * 1000:.1f}")
