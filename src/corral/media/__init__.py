"""Images and sounds that clients send: what they are, and plain files of them that an engine may be given."""

from corral.media.converter import Converter, Picture
from corral.media.kinds import Kind, kind_of
from corral.media.sounds import plain_sound

__all__ = ["Converter", "Kind", "Picture", "kind_of", "plain_sound"]
