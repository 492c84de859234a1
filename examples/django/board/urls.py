from django.contrib.auth.views import LoginView
from django.urls import path

from . import views

urlpatterns = [
    path("", views.board),
    path("greet/", views.greet),
    path("callboard/auth/", views.who),
    path("login/", LoginView.as_view(template_name="login.html")),
    path("logout/", views.Logout.as_view()),
]
