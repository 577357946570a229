"""The application that uvicorn serves: `uvicorn pmis.api.main:app`."""

from pmis.api.app import create_app
from pmis.kit.settings import get_settings

app = create_app(get_settings())
