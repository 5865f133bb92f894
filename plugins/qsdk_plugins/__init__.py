"""The plugins that come with qsdk, each what a stranger's package would be."""
