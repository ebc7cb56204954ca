"""Carrying bytes between a browser's WebSocket and a machine. Pure asyncio: no Django."""
