"""A small shop as there are thousands: Flask, SQLAlchemy, PostgreSQL. Nothing in it knows of OpenTelemetry or of Gemba.

The folder of PostgreSQL's socket is the argument. Prints its address, serves, and ends when its input does.
"""
import sys
import threading

from flask import Flask, jsonify
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from werkzeug.serving import make_server

app = Flask("shop")
database = create_engine(f"postgresql+psycopg2://gemba@/postgres?host={sys.argv[1]}")


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    buyer: Mapped[str]


@app.get("/orders/<int:number>")
def order(number):
    with Session(database) as session:
        found = session.get(Order, number)
        return jsonify(buyer=found.buyer) if found else ("no such order", 404)


@app.get("/buyers/<name>")
def buyer(name):
    with Session(database) as session:
        # As people write it: the value in the text.
        rows = session.execute(text(f"SELECT id FROM orders WHERE buyer = '{name}' ORDER BY id"))
        numbers = [row.id for row in rows]
        # One query for each order instead of one for all.
        return jsonify([session.execute(text("SELECT buyer FROM orders WHERE id = :id"), {"id": n}).scalar() for n in numbers])


@app.post("/orders/<int:number>")
def add(number):
    try:
        with Session(database) as session:
            session.add(Order(id=number, buyer="ann"))
            session.commit()
        return "added", 201
    except IntegrityError:
        return "there already", 409


@app.get("/broken")
def broken():
    raise RuntimeError("on purpose")


Base.metadata.create_all(database)
server = make_server("127.0.0.1", 0, app, threaded=False)
print(f"http://127.0.0.1:{server.server_port}", flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdin.read()
server.shutdown()
