"""K-means codebooks for qsdk, with an encoding and an observer of their own."""
