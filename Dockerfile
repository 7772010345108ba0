# docker build -t rampart .                            CPU
# docker build -t rampart --build-arg COMPUTE=cuda .   CUDA 13 (needs the NVIDIA container toolkit to run)
# docker run --rm -it -v rampart-runs:/home/rampart/rampart/runs rampart rampart user add NAME --role admin      once, before:
# docker run --rm -p 127.0.0.1:8501:8501 -v rampart-runs:/home/rampart/rampart/runs -v rampart-data:/home/rampart/data rampart
# docker run --rm -v rampart-data:/home/rampart/data rampart rampart dataset fetch cifar10     a dataset, once
FROM python:3.11-slim-bookworm

ARG COMPUTE=cpu
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    RAMPART_RUNS=/home/rampart/rampart/runs RAMPART_DATA=/home/rampart/data

# The search kernels are compiled on first use, for the processor at hand. tini ends processes whose parent has ended.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev tini \
    && rm -rf /var/lib/apt/lists/*

# The process that serves the page and starts the runs must not be root.
RUN useradd --create-home --uid 1000 rampart
WORKDIR /home/rampart/rampart

COPY requirements.txt requirements-no-deps.txt ./
# The same pin is a CPU build on PyTorch's own index and a CUDA 13 build on the default one.
RUN case "$COMPUTE" in \
      cpu) pip install "$(grep '^torch==' requirements.txt)" --index-url https://download.pytorch.org/whl/cpu ;; \
      cuda) pip install "$(grep '^torch==' requirements.txt)" ;; \
      *) echo "COMPUTE must be cpu or cuda, got '$COMPUTE'" >&2; exit 1 ;; \
    esac \
    && pip install -r requirements.txt \
    && pip install --no-deps -r requirements-no-deps.txt

COPY --chown=rampart:rampart pyproject.toml README.md LICENSE ./
COPY --chown=rampart:rampart engine engine
COPY --chown=rampart:rampart app app
# Editable: the server writes the chart library beside the pages, where its user may write.
# The dashboard runs without docstrings (-OO), which has bytecode of its own.
RUN pip install --no-deps --editable . && python -OO -c "import app.streamlit_server, app.session, streamlit.web.bootstrap"
COPY --chown=rampart:rampart runs/README.md runs/README.md
# The data folder must be there, and the user's, for a new volume to take its owner over.
RUN mkdir /home/rampart/data && chown -R rampart:rampart /home/rampart

USER 1000:1000
VOLUME ["/home/rampart/rampart/runs", "/home/rampart/data"]
EXPOSE 8501
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8501/_stcore/health')"]
ENTRYPOINT ["tini", "--"]
# 0.0.0.0 is inside the container only: publish the port to the host's loopback as shown above.
CMD ["rampart", "ui", "--address", "0.0.0.0"]
