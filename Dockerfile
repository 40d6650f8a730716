FROM rust:1.95-slim-bookworm AS chef
WORKDIR /build
RUN cargo install --locked cargo-chef --version 0.1.78

FROM chef AS planner
COPY . .
RUN cargo chef prepare --recipe-path recipe.json

FROM chef AS builder
COPY --from=planner /build/recipe.json .
# A layer of its own: a change to the code alone does not build the dependencies again.
RUN cargo chef cook --release --locked --recipe-path recipe.json
COPY . .
RUN cargo build --release --locked
# The final image has no shell to make a folder with, and its user may not write elsewhere.
RUN mkdir /data

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=builder --chown=nonroot:nonroot /data /data
COPY --from=builder /build/target/release/mirrory /usr/local/bin/
ENV DATABASE_URL=sqlite:///data/mirrory.db \
    MIRRORY__SERVER__LISTEN=0.0.0.0:8080
VOLUME /data
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["mirrory", "healthcheck"]
ENTRYPOINT ["mirrory"]
