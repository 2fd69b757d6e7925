"""DICOM: series as volumes, several series of a study as channels, SEG and RTSTRUCT as label maps; no names kept."""
