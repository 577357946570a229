"""The application that uvicorn serves: `uvicorn pmis.api.main:app`."""

from pmis.api.app import create_app
from pmis.kit import faults, logs, traces
from pmis.kit.settings import get_settings

logs.configure(get_settings(), "api")
faults.configure(get_settings(), "api")
traces.configure(get_settings(), "api")
app = create_app(get_settings())
