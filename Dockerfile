# The artifact with its environment, for whoever has no Python 3.11 at hand:
#   docker build --tag otr . && docker run --rm --publish 127.0.0.1:8888:8888 otr
FROM python:3.11-slim-bookworm
RUN apt-get update \
    && apt-get install -y --no-install-recommends chromium git make npm \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home reader && install --directory --owner reader /artifact
USER reader
WORKDIR /artifact
COPY --chown=reader . .
RUN make setup
EXPOSE 8888
# JupyterLab asks for the token that it prints.
CMD [".venv/bin/jupyter", "lab", "--ip=0.0.0.0", "--no-browser", "--notebook-dir=notebooks"]
