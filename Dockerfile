# Not built so far: the base image cannot be fetched where this was written. Short on purpose.
FROM paddlepaddle/paddle:3.2.2-gpu-cuda12.6-cudnn9.5

# The image carries paddlepaddle-gpu; on another base: pip install paddlepaddle-gpu==3.2.2
#   -i https://www.paddlepaddle.org.cn/packages/stable/cu126/
# What is copied and installed stays root's: a run cannot change it.
COPY . /opt/batchseg
RUN pip install --no-cache-dir /opt/batchseg \
    && groupadd --gid 10001 batchseg \
    && useradd --create-home --uid 10001 --gid 10001 --shell /usr/sbin/nologin batchseg
# By number: Kubernetes' runAsNonRoot knows no names.
USER 10001:10001
WORKDIR /home/batchseg
ENTRYPOINT ["batchseg"]
