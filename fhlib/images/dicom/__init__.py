"""Read DICOM: where the standard states the size of a voxel, and a refusal where nothing states it.

`headers.py` reads the tags that matter, `pixel_size.py` what they say of a pixel, `geometry.py` how frames or slices make
a volume, `embedded.py` finds GE Kretz volumes, `folders.py` what lies in an export, `reading.py` makes a `Volume` of it.
"""

from fhlib.images.dicom.embedded import kretz_in as kretz_in
from fhlib.images.dicom.folders import DicomSeries as DicomSeries
from fhlib.images.dicom.folders import Source as Source
from fhlib.images.dicom.folders import dicom_sources as dicom_sources
from fhlib.images.dicom.folders import series_files as series_files
from fhlib.images.dicom.headers import is_damaged as is_damaged
from fhlib.images.dicom.headers import is_dicom as is_dicom
from fhlib.images.dicom.pixel_size import REMEDY as REMEDY
from fhlib.images.dicom.reading import per_axis as per_axis
from fhlib.images.dicom.reading import read_dicom as read_dicom
