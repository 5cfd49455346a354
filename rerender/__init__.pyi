from rerender.api import load_model as load_model
from rerender.api import parts as parts
from rerender.api import write_video as write_video
from rerender.codec import open_video as open_video
from rerender.errors import RerenderError as RerenderError
from rerender.fitting import fit as fit
from rerender.pipeline import render as render
from rerender.video import Clip as Clip

__version__: str
